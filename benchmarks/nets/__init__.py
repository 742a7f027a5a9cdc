"""The nets of the compression benchmark, each made into a case by a script.

`python -m benchmarks.nets NAME FOLDER [--seed N] [--quick]` writes one, `--list` says
which can be made here. A case is a folder with the float32 net, its task, and samples
in three parts that share nothing; see `benchmarks.nets.case`.
"""
