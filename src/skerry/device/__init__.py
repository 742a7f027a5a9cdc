"""What senses: cameras, sensors, replayed recordings."""
