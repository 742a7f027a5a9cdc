"""Make a module smaller by leaving parts of it out, and train the rest again."""
