"""Every format of request and answer over HTTP, with the server's handling of headers, types and bodies in between."""

import io
import json

import numpy
import pytest

from handlers.codecs.negotiation import OIP_TYPE
from handlers.codecs.npy import NPY_TYPE, NPZ_TYPE
from handlers.codecs.oip import JSON_LENGTH_HEADER
from handlers.sample import difference

pytestmark = pytest.mark.server


def npy(values) -> bytes:
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.asarray(values))
    return buffer.getvalue()


def npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    numpy.savez(buffer, **arrays)
    return buffer.getvalue()


def tensor(name: str, array: numpy.ndarray, datatype: str, binary: bool) -> dict:
    content = {"parameters": {"binary_data_size": array.nbytes}} if binary else {"data": array.ravel().tolist()}
    return {"name": name, "shape": array.shape, "datatype": datatype} | content


@pytest.fixture
def corners(sample) -> numpy.ndarray:
    return numpy.asarray(sample.corners, numpy.float32)


@pytest.mark.parametrize("content_type", [NPZ_TYPE, "application/octet-stream"])
def test_npz_in_and_npz_out(digits, sample, corners, content_type):
    headers = {"Content-Type": content_type, "Accept": NPZ_TYPE}
    response = digits.predict("digits", data=npz(image=sample.pixels, corners=corners), headers=headers)
    assert (response.status_code, response.headers["Content-Type"]) == (200, NPZ_TYPE)
    with numpy.load(io.BytesIO(response.content), allow_pickle=False) as answer:
        assert answer["label"] == sample.answer["label"]
        numpy.testing.assert_allclose(answer["probabilities"], sample.answer["probabilities"], atol=1e-5)


def test_npy_parts_next_to_other_parts(digits, sample, corners):
    files = {"image": ("i", sample.png), "corners": ("c", npy(corners), NPY_TYPE)}
    assert difference(digits.predict("digits", files=files).json(), sample.answer) is None


@pytest.mark.parametrize("binary", [False, True])
def test_the_open_inference_protocol(digits, sample, corners, binary):
    document = {
        "id": "a-7",
        "inputs": [tensor("image", sample.pixels, "UINT8", binary), tensor("corners", corners, "FP32", binary)],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": binary}}, {"name": "label"}],
    }
    head = json.dumps(document).encode()
    tail = sample.pixels.tobytes() + corners.tobytes() if binary else b""
    headers = {"Content-Type": "application/octet-stream", JSON_LENGTH_HEADER: str(len(head))} if binary else {}
    response = digits.predict("digits", data=head + tail, headers={"Content-Type": "application/json"} | headers)
    assert response.status_code == 200, response.text
    size = int(response.headers.get(JSON_LENGTH_HEADER, len(response.content)))
    answer = json.loads(response.content[:size])
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("digits", "1.0", "a-7")
    probabilities, label = answer["outputs"]
    assert label == {"name": "label", "datatype": "INT64", "shape": [], "data": [sample.answer["label"]]}
    got = numpy.frombuffer(response.content[size:], numpy.float32) if binary else probabilities["data"]
    numpy.testing.assert_allclose(got, sample.answer["probabilities"], atol=1e-5)
    assert (JSON_LENGTH_HEADER in response.headers) == binary


def test_accept_is_honoured_and_errors_are_json(digits, sample):
    response = digits.predict("digits", files=sample.form(), headers={"Accept": f"{OIP_TYPE}, */*;q=0.1"})
    assert response.headers["Content-Type"] == OIP_TYPE
    assert [output["name"] for output in response.json()["outputs"]] == ["label", "probabilities"]
    refused = digits.predict("digits", files=sample.form(), headers={"Accept": "text/html"})
    assert (refused.status_code, refused.headers["Content-Type"]) == (406, "application/json")
    assert NPZ_TYPE in refused.json()["error"]["message"]
    broken = digits.predict("digits", data=b"PK\x03\x04", headers={"Accept": NPZ_TYPE, "Content-Type": NPZ_TYPE})
    assert (broken.status_code, broken.headers["Content-Type"]) == (400, "application/json")


def test_a_part_named_like_a_header_is_only_an_unknown_input(digits, sample):
    files = sample.form() | {"Host": ("h", b"1"), "Accept": ("a", b"1")}
    response = digits.predict("digits", files=files)
    assert (response.status_code, response.json()["error"]["field"]) == (400, "Accept")
