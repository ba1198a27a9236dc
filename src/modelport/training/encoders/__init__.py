"""Raw columns to one matrix of float32, twice: with numpy to learn from, as ONNX to be served. Loads onnx."""
