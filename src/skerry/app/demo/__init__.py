"""What `skerry demo` shows: two real networks on real pictures."""
