"""Ask a toolchain, one operator at a time, what it runs, and write down its answers."""
