"""What people touch: the command line, reports and pages, tool environments."""
