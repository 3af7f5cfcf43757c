"""Every test of the losses runs with deterministic algorithms demanded: an operation that has none raises."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

# cuBLAS reads this when CUDA starts; without it, deterministic mode refuses matrix products on a GPU.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def load(path):
    """A Python file as a module: test folders are not packages."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def oracle():
    return load(Path(__file__).with_name("loss_oracles.py"))


@pytest.fixture(scope="session")
def benchmark_script():
    return load(Path(__file__).parents[1] / "benchmarks" / "losses.py")


@pytest.fixture(autouse=True)
def deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


@pytest.fixture
def maps():
    """Makes a pair of maps in float64, the student's with a gradient; half of the numbers are zero, as after a ReLU."""

    def make(shape, *, seed=0, dtype=torch.float64, device="cpu", scale=1.0):
        draw = torch.Generator().manual_seed(seed)
        made = [torch.randn(shape, generator=draw, dtype=torch.float64).relu_() * scale for _ in range(2)]
        student, teacher = (x.to(device, dtype) for x in made)
        return student.requires_grad_(), teacher

    return make
