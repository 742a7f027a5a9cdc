"""The verb *Run*: fit a model to hardware, and show what stands in the way."""
