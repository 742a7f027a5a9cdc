"""The Open Inference Protocol, version 2: one service behind HTTP, gRPC and memory."""
