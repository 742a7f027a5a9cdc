"""Compress by training: extra `train`.

All works on one thing, a torch module that has the names, inputs and outputs of a
model. `training` says what it is trained with, `fit` trains it, `export` turns it into
a graph and `from_graph` a graph into such a module; `run` applies the steps of a
recipe, those that train before those that change the exported graph:

```python
recipe = Recipe(steps=(StepSpec(name="prune"), StepSpec(name="quantize")))
made = train_recipe(training, recipe, runtime=get_runtime("onnxruntime"))
write_graph(made.graph, Path("small.onnx"))
```
"""
