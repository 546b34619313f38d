"""onnxruntime in this process, for infer_backends."""
