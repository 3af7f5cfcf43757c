"""Inception-ResNet-v1 takes facenet-pytorch's files, and its blocks do what the paper says."""

import torch

from addlib.detectors import create_detector, normalisation

# The public VGGFace2 file, written down from its published key list: name, inputs, outputs, kernel height and width.
A = "branch0 256 32 1 1, branch1.0 256 32 1 1, branch1.1 32 32 3 3, branch2.0 256 32 1 1, branch2.1 32 32 3 3"
A += ", branch2.2 32 32 3 3"
B = "branch0 896 128 1 1, branch1.0 896 128 1 1, branch1.1 128 128 1 7, branch1.2 128 128 7 1"
C = "branch0 1792 192 1 1, branch1.0 1792 192 1 1, branch1.1 192 192 1 3, branch1.2 192 192 3 1"
PARTS = {
    "": "conv2d_1a 3 32 3 3, conv2d_2a 32 32 3 3, conv2d_2b 32 64 3 3, conv2d_3b 64 80 1 1, conv2d_4a 80 192 3 3, "
    "conv2d_4b 192 256 3 3",
    "mixed_6a.": "branch0 256 384 3 3, branch1.0 256 192 1 1, branch1.1 192 192 3 3, branch1.2 192 256 3 3",
    "mixed_7a.": "branch0.0 896 256 1 1, branch0.1 256 384 3 3, branch1.0 896 256 1 1, branch1.1 256 256 3 3, "
    "branch2.0 896 256 1 1, branch2.1 256 256 3 3, branch2.2 256 256 3 3",
}
# Inputs and outputs of the joining convolution, and the units of each block.
BLOCKS = {f"repeat_1.{i}.": (96, 256, A) for i in range(5)} | {f"repeat_2.{i}.": (256, 896, B) for i in range(10)}
BLOCKS |= {f"repeat_3.{i}.": (384, 1792, C) for i in range(5)} | {"block8.": (384, 1792, C)}


def public_shapes():
    shapes = {"last_linear.weight": (512, 1792), "logits.weight": (8631, 512), "logits.bias": (8631,)}
    norms = {"last_bn": 512}
    for prefix, units in (PARTS | {prefix: units for prefix, (_, _, units) in BLOCKS.items()}).items():
        for name, *numbers in map(str.split, units.split(", ")):
            inputs, outputs, *kernel = map(int, numbers)
            shapes[f"{prefix}{name}.conv.weight"] = (outputs, inputs, *kernel)
            norms[f"{prefix}{name}.bn"] = outputs
    for prefix, (inputs, outputs, _) in BLOCKS.items():
        shapes |= {f"{prefix}conv2d.weight": (outputs, inputs, 1, 1), f"{prefix}conv2d.bias": (outputs,)}
    parts = ("weight", "bias", "running_mean", "running_var")
    return shapes | {f"{name}.{part}": (width,) for name, width in norms.items() for part in parts}


def test_public_file(tmp_path):
    # 27,910,327 is the count that users of the file report, its 8631 identities included.
    shapes = public_shapes()
    assert sum(torch.Size(shape).numel() for key, shape in shapes.items() if "running" not in key) == 27_910_327
    state = {key: torch.full(shape, 0.01 + 0.001 * (i % 7)) for i, (key, shape) in enumerate(shapes.items())}
    # As many identities as classes: the public head is not taken all the same.
    torch.save(state | {"logits.weight": torch.zeros(2, 512), "logits.bias": torch.zeros(2)}, tmp_path / "public.pt")
    detector = create_detector("inception_resnet_v1", weights=str(tmp_path / "public.pt"))
    found = detector.state_dict()
    assert [key for key in state if "logits." not in key and not torch.equal(found[key], state[key])] == []
    assert detector.head.weight.any()
    assert {key for key in found if "num_batches" not in key} - state.keys() == {"head.weight", "head.bias"}


def test_embedding_and_residual_blocks():
    detector, seen = create_detector("inception_resnet_v1").eval(), []
    detector.last_bn.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        embedding = detector(torch.rand(3, 3, 80, 80) * 2 - 1).embedding
        torch.testing.assert_close(embedding, (seen[0] / seen[0].square().sum(1, keepdim=True).sqrt()).clamp_min(0))
        for part, channels, scale in (("repeat_1.0", 256, 0.17), ("repeat_2.9", 896, 0.1), ("block8", 1792, 1.0)):
            block, x = detector.get_submodule(part), torch.randn(1, channels, 5, 5)
            torch.nn.init.zeros_(block.conv2d.weight)
            torch.nn.init.constant_(block.conv2d.bias, 0.5)
            expected = x + scale * 0.5
            torch.testing.assert_close(block(x), expected if part == "block8" else expected.clamp_min(0))
    assert normalisation("inception_resnet_v1") == (0.5, 128 / 255)  # (x - 127.5) / 128 of 8-bit values
