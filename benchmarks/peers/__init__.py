"""Scripts that run other tools, each by the Python of that tool's own environment.

`python SCRIPT SETTING FOLDER OUT`: the folder holds the model and the samples as
`benchmarks._compress_ptq_make` lays them out, `OUT` takes the model and `cost.json`.
Nothing of Skerry is imported here.
"""
