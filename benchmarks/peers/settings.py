"""Which libraries run in which precision, for the default student and for the 0.6B shape."""

from benchmarks.peers.peer import Setting

_TORCH = ("torch", "transformers")
_OPENVINO = ("openvino", "nncf")
_CROSS_ENCODER = ("sentence-transformers", "torch", "transformers")

OURS = Setting("ours, int8", "ours", "int8", 1.3, ("onnxruntime",))
REFERENCE = Setting("torch fp32", "torch_peer", "fp32", 4.5, _TORCH)

_SAME_WEIGHTS = (
    OURS,
    REFERENCE,
    Setting("torch bf16", "torch_peer", "bf16", 4.5, _TORCH),
    Setting("ONNX Runtime fp32, padded", "onnxruntime_peer", "fp32", 6.0, ("onnxruntime",)),
    Setting("ONNX Runtime int8, quantize_dynamic", "onnxruntime_peer", "int8", 2.0, ("onnxruntime",)),
    Setting("OpenVINO fp32", "openvino_peer", "fp32", 6.0, _OPENVINO),
    Setting("OpenVINO bf16", "openvino_peer", "bf16", 5.0, _OPENVINO),
    Setting("OpenVINO int8", "openvino_peer", "int8", 2.5, _OPENVINO),
)

STUDENT = (
    *_SAME_WEIGHTS,
    Setting("CrossEncoder fp32", "cross_encoder_peer", "fp32", 4.5, _CROSS_ENCODER, same_weights=False),
    Setting("CrossEncoder bf16", "cross_encoder_peer", "bf16", 4.5, _CROSS_ENCODER, same_weights=False),
)

QWEN = (
    *(setting for setting in _SAME_WEIGHTS if setting.name != "OpenVINO fp32"),  # minutes, and its bf16 is beside it
    Setting("llama.cpp Q8_0", "llama_cpp_peer", "q8_0", 1.5, ("llama_cpp_python",)),
)
