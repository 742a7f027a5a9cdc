"""Many cameras on one gateway: who is looked at when, what is seen, what may leave."""
