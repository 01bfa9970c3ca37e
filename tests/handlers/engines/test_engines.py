"""Every engine gives the same response for the same module, and reports why it cannot load one."""

import json
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from torch import nn

import opserve_ops
from archive.building.export import export_onnx, save_torchscript
from handlers.codecs.request import Part
from handlers.config import CONFIG_FILE, ModelConfig
from handlers.engines import classify_error, load_engine
from handlers.engines.op_library import select_libraries
from handlers.errors import DeviceError, ModelError, OutOfMemoryError, RequestError
from handlers.model import ServableModel

SPECS = [{"name": name, "dtype": "float32", "shape": [-1]} for name in ("x", "y")]
OUTPUTS = [
    {"name": name, "dtype": dtype, "shape": shape}
    for name, dtype, shape in [("z", "float32", [-1]), ("best", "int64", [])]
]


class Sum(nn.Module):
    """One of our operators, and two outputs."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.ops.opserve.scaled_add(x, y, 2.0)
        return z, z.argmax(dim=1)


def write(folder: Path, artifact: str, libraries: list[str] | None = None, **changes) -> Path:
    library = "libopserve_onnxruntime.so" if artifact.endswith(".onnx") else "libopserve_torch.so"
    used = [library] if libraries is None else libraries
    section = {"artifact": artifact, "op_libraries": used, "batching": "stack", "inputs": SPECS, "outputs": OUTPUTS}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump({"opserve": section | changes}))
    for name in used:
        source = opserve_ops.library_path().parent / name
        if source.is_file() and not (folder / name).exists():
            (folder / name).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory) -> Path:
    """The module in every format."""
    folder = tmp_path_factory.mktemp("artifacts")
    x, y = torch.ones(2, 3), torch.ones(2, 3)
    save_torchscript(Sum(), folder / "sum.pt")
    batch, size = torch.export.Dim("batch"), torch.export.Dim("size")
    shapes = ({0: batch, 1: size}, {0: batch, 1: size})
    program = torch.export.export(Sum(), (x, y), dynamic_shapes=shapes)
    torch.export.save(program, folder / "sum.pt2")
    torch._inductor.aoti_compile_and_package(program, package_path=str(folder / "compiled.pt2"))
    axes = {0: "batch", 1: "size"}
    export_onnx(Sum(), {"x": x, "y": y}, ("z", "best"), {"x": axes, "y": axes}, folder / "sum.onnx")
    return folder


ARTIFACTS = ["sum.pt", "sum.pt2", "compiled.pt2", "sum.onnx"]


@pytest.fixture
def place(tmp_path, artifacts):
    def make(artifact: str, **changes) -> Path:
        (tmp_path / artifact).write_bytes((artifacts / artifact).read_bytes())
        return write(tmp_path, artifact, **changes)

    return make


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_every_format_gives_the_same_response(place, artifact):
    model = ServableModel(place(artifact))
    requests = [
        {"x": [1.0, 5.0, 2.0], "y": [1.0, 0.5, 9.0]},
        {"x": [-1.0], "y": [0.25]},
        {"x": [4.0, 0.0], "y": [1, 1]},
    ]
    answers = model.answer([{"body": Part(json.dumps(request).encode())} for request in requests])
    assert [json.loads(answer.body) for answer in answers] == [
        {"z": [3, 10.5, 13], "best": 2},
        {"z": [-1.75], "best": 0},
        {"z": [9, 1], "best": 0},
    ]
    described = model.engine.describe()
    assert described["device"] == "cpu" and described["threads"] == 1
    assert described["format"] == {"sum.pt": "TorchScript", "sum.pt2": "exported program", "sum.onnx": "ONNX"}.get(
        artifact, "AOTInductor package"
    )


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_a_file_that_does_not_have_its_format_is_named(tmp_path, artifact):
    (tmp_path / artifact).write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(ModelError, match=rf"^{artifact}: ") as caught:
        ServableModel(write(tmp_path, artifact))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("artifact", ARTIFACTS)
def test_cuda_never_falls_back(place, artifact):
    with pytest.raises(ModelError, match="device: cuda is asked for and"):
        ServableModel(place(artifact, device="cuda"))


@pytest.mark.parametrize(("artifact", "runtime"), [("sum.pt", "torch"), ("sum.onnx", "onnxruntime")])
def test_a_library_for_cuda_is_left_alone_on_the_processor(place, artifact, runtime):
    """Even one that cannot be opened."""
    libraries = [f"libopserve_{runtime}.so", f"libopserve_{runtime}_cuda.so"]
    folder = place(artifact, libraries=libraries)
    (folder / libraries[1]).unlink(missing_ok=True)
    (folder / libraries[1]).write_bytes(b"\x7fELF and no more")
    model = ServableModel(folder)
    arrays = {name: numpy.ones((1, 2), numpy.float32) for name in "xy"}
    numpy.testing.assert_array_equal(model.engine.run(arrays)["z"], [[3, 3]])


def test_the_onnx_library_for_cuda_works_on_the_processor_too(place):
    library = "libopserve_onnxruntime_cuda.so"
    if not (opserve_ops.library_path().parent / library).is_file():
        pytest.skip("built without a CUDA compiler")
    model = ServableModel(place("sum.onnx", libraries=[library]))
    arrays = {name: numpy.ones((1, 2), numpy.float32) for name in "xy"}
    numpy.testing.assert_array_equal(model.engine.run(arrays)["z"], [[3, 3]])


def test_which_libraries_a_worker_opens():
    both, other = ["a.so", "b.so", "b_cuda.so"], ["only_cuda.so"]
    for instead in (True, False):
        assert select_libraries(both, gpu=False, cuda_replaces=instead) == ["a.so", "b.so"]
        assert select_libraries(other, gpu=False, cuda_replaces=instead) == other
        assert select_libraries(other, gpu=True, cuda_replaces=instead) == other
    assert select_libraries(both, gpu=True, cuda_replaces=False) == both
    assert select_libraries(both, gpu=True, cuda_replaces=True) == ["a.so", "b_cuda.so"]


def test_onnx_without_its_library_is_reported(place):
    with pytest.raises(ModelError, match=r"sum\.onnx: ONNX Runtime does not load it: .*opserve"):
        ServableModel(place("sum.onnx", libraries=[]))


def test_onnx_names_and_types_are_compared_with_the_signature(place, tmp_path):
    folder = place("sum.onnx", inputs=[SPECS[0], SPECS[1] | {"name": "w"}])
    with pytest.raises(ModelError, match=r"its inputs are \['x', 'y'\], the configuration says \['w', 'x'\]"):
        ServableModel(folder)
    write_again = yaml.safe_load((folder / CONFIG_FILE).read_text())
    write_again["opserve"]["inputs"] = [SPECS[0], SPECS[1] | {"dtype": "float64"}]
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(write_again))
    with pytest.raises(ModelError, match=r"input 'y' is tensor\(float\), not float64"):
        ServableModel(folder)


def test_freezing_keeps_the_response(place):
    model = ServableModel(place("sum.pt", freeze=True, optimize_for_inference=True))
    arrays = {name: numpy.ones((1, 2), numpy.float32) for name in "xy"}
    numpy.testing.assert_array_equal(model.engine.run(arrays)["z"], [[3, 3]])


def test_an_option_of_another_format_is_refused(place):
    with pytest.raises(ModelError, match=r"opserve\.freeze is for \.pt files and would change nothing for sum\.onnx"):
        ServableModel(place("sum.onnx", freeze=True))


def test_an_unknown_format_is_refused(tmp_path):
    config = ModelConfig.read(write(tmp_path, "model.h5", libraries=[]) / CONFIG_FILE)
    with pytest.raises(ModelError, match=r"model\.h5: no engine for this format"):
        load_engine(tmp_path, config)


def test_a_sample_that_is_refused_keeps_the_worker_from_starting(place):
    folder = place("sum.pt")
    (folder / "sample" / "request").mkdir(parents=True)
    (folder / "sample" / "request" / "body.json").write_text('{"x": [1]}')
    with pytest.raises(ModelError, match=r"the sample request is refused: .*'y' is missing"):
        ServableModel(folder)
    (folder / "sample" / "request" / "body.json").write_text('{"x": [1], "y": [2]}')
    ServableModel(folder)


def fine() -> None:
    """A GPU that can still be used."""


def lost() -> None:
    """A GPU that cannot."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


class TestClassifyError:
    """An exception of a runtime becomes the error that matches it."""

    @pytest.mark.parametrize("device", ["cpu", "cuda:0"])
    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            RuntimeError("CUDA error: out of memory"),
            RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("Storage size calculation overflowed with sizes=[1099511627776, 1099511627776]"),
            RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 99"),
            RuntimeError("std::bad_alloc"),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            RuntimeError("opserve::graph_conv: out of memory: 80000000000 bytes of workspace"),
            RuntimeError("opserve::graph_conv: the GPU reports: out of memory"),
            RuntimeError("Status Message: opserve::graph_conv: out of memory"),
        ],
        ids=str,
    )
    def test_a_lack_of_memory(self, error, device):
        assert isinstance(classify_error(error, device, fine), OutOfMemoryError)

    @pytest.mark.parametrize(
        "error",
        [
            torch.AcceleratorError("CUDA error: device-side assert triggered"),
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            RuntimeError(
                "The following operation failed in the TorchScript interpreter.\nCUDA error: misaligned address"
            ),
            RuntimeError("CUDA failure 700: an illegal memory access was encountered ; GPU=0"),
            RuntimeError("opserve::scaled_add: the GPU reports: unspecified launch failure"),
            RuntimeError("Non-zero status code: opserve::graph_conv: the GPU reports: unspecified launch failure"),
        ],
        ids=str,
    )
    def test_a_lost_gpu_where_there_is_one(self, error):
        assert isinstance(classify_error(error, "cuda:0", fine), DeviceError)
        assert classify_error(error, "cpu", lost) is error

    def test_a_gpu_is_probed_if_the_message_is_unknown(self):
        error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
        assert isinstance(classify_error(error, "cuda:0", lost), DeviceError)
        assert classify_error(error, "cuda:0", fine) is error
        assert classify_error(error, "cpu", lost) is error

    @pytest.mark.parametrize("device", ["cpu", "cuda:0"])
    def test_an_operators_error_is_the_senders(self, device):
        text = "Non-zero status code. Status Message: opserve::scaled_add: x has 2 elements, y has 3\nTraceback"
        meaning = classify_error(RuntimeError(text), device, fine)
        assert (type(meaning), meaning.status) == (RequestError, 400)
        assert str(meaning) == "opserve::scaled_add: x has 2 elements, y has 3"

    @pytest.mark.parametrize(
        "text", ["Could not run 'opserve::scaled_add' with arguments from the 'CUDA' backend: it is", "opserve::x"]
    )
    def test_a_runtimes_error_about_an_operator_is_not(self, text):
        error = RuntimeError(text)
        assert classify_error(error, "cpu", fine) is error

    @pytest.mark.parametrize("error", [ModelError("CUDA error"), RequestError("CUDA error", field="x")])
    def test_an_error_that_was_classified_before_stays(self, error):
        assert classify_error(error, "cuda:0", lost) is error


@pytest.mark.parametrize("artifact", ["sum.pt", "sum.onnx"])
def test_operators_refuse_through_every_engine(artifacts, artifact):
    model = ServableModel(write(artifacts, artifact))
    with pytest.raises(RequestError, match="opserve::scaled_add: ") as caught:
        model.engine.run({"x": numpy.ones((1, 2), numpy.float32), "y": numpy.ones((1, 3), numpy.float32)})
    assert caught.value.status == 400


def test_nothing_more_runs_on_a_lost_gpu(artifacts):
    """Later runs are refused without an attempt."""
    model = ServableModel(write(artifacts, "sum.pt"))
    model.engine._device, model.engine.device = torch.device("cuda", 0), "cuda:0"
    tried = []

    def run(*tensors):
        tried.append(tensors)
        raise RuntimeError("opserve::scaled_add: the GPU reports: unspecified launch failure")

    model.engine._model, model.engine._tensor = run, lambda array: array
    answers = model.answer([{"body": Part(b'{"x": [1], "y": [2]}')}, {"body": Part(b'{"x": [1, 2], "y": [2, 3]}')}] * 3)
    assert [answer.status for answer in answers] == [500] * 6
    assert len(tried) == 1 and model.broken.endswith("the GPU reports: unspecified launch failure")
