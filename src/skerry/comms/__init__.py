"""What carries: links, codec, outbox, blobs, the embedded broker."""
