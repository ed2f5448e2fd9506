"""torchvision and timm: their networks without heads, seen as their weights were trained."""

import shutil

import pytest
import torch

from search.errors import TaskError
from search.models.checks import feature_width
from search.models.registry import find_network
from search.models.weights import load_weights
from search.spec.tables import Model


def model(backbone, **keys):
    return Model(backbone=backbone, **{"weights": "none", **keys})


@pytest.mark.parametrize(
    ("name", "size", "width", "replaced"),
    [
        ("resnet18", 64, 512, "fc."),
        ("mobilenet_v2", 64, 1280, "classifier.1."),
        ("mobilenet_v3_small", 64, 1024, "classifier.3."),
        ("efficientnet_b0", 64, 1280, "classifier.1."),
        ("densenet121", 64, 1024, "classifier."),
        ("squeezenet1_1", 64, 512, "classifier.1."),
        ("googlenet", 64, 1024, "fc."),
        ("regnet_y_400mf", 64, 440, "fc."),
        pytest.param("vgg16", 64, 4096, "classifier.6.", marks=pytest.mark.soak),
        pytest.param("inception_v3", 96, 2048, "fc.", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", 64, 768, "classifier.2.", marks=pytest.mark.slow),
        pytest.param("vit_b_16", 224, 768, "heads.head.", marks=pytest.mark.soak),
        pytest.param("swin_t", 64, 768, "head.", marks=pytest.mark.slow),
    ],
)
def test_torchvision_classifiers_without_their_last_layer(name, size, width, replaced):
    network = find_network(model(name, image_size=size))
    backbone = network.build().backbone
    assert network.images.size == size
    assert network.classifier_prefixes[0] == replaced
    assert feature_width(backbone, torch.zeros(2, 3, size, size)) == width
    backbone.train()
    assert backbone(torch.randn(2, 3, size, size)).shape == (2, width), "no auxiliary outputs in training"


@pytest.mark.parametrize(("name", "size"), [("resnet18", 224), ("inception_v3", 299), ("efficientnet_b0", 224)])
def test_images_are_seen_as_the_weights_were_trained(name, size):
    assert find_network(model(name)).images.size == size
    assert find_network(model(name)).images.mean == (0.485, 0.456, 0.406)
    assert find_network(model(name, image_size=size // 2)).images.size == size // 2
    assert find_network(model(name, mean=[0.5] * 3, std=[0.5] * 3)).images.std == (0.5,) * 3
    with pytest.raises(TaskError, match=r"mean has 3 values and std 1"):
        find_network(model(name, std=[0.5]))


def test_real_imagenet_weights_by_name_and_by_file(assets, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = assets / "mobilenet_v2-b0353104.pth"
    shutil.copy(file, tmp_path / "checkpoints")
    states = []
    for weights in ("IMAGENET1K_V1", str(file)):
        spec = model("mobilenet_v2", weights=weights)
        network = find_network(spec)
        states.append(load_weights(spec, network, network.build().backbone))
    whole = torch.load(file, weights_only=True)
    for state in states:
        assert all(torch.equal(tensor, whole[key]) for key, tensor in state.items())
        assert set(whole) - set(state) == {"classifier.1.weight", "classifier.1.bias"}


def test_weights_without_a_network_say_what_to_do(tmp_path, monkeypatch):
    def nothing(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", nothing)
    spec = model("resnet18", weights="DEFAULT")
    network = find_network(spec)
    with pytest.raises(
        TaskError, match=r"resnet18's can't be downloaded \(OSError: no network\)\. Put resnet18-f37072fd"
    ):
        load_weights(spec, network, network.build().backbone)


def test_weights_that_a_library_does_not_know_are_named():
    spec = model("resnet18", weights="IMAGENET22K")
    with pytest.raises(
        TaskError, match=r"'IMAGENET22K' is neither a file nor known .* allowed: IMAGENET1K_V1, DEFAULT"
    ):
        load_weights(spec, find_network(spec), find_network(spec).build().backbone)


def test_old_densenet_files_fit():
    spec = model("densenet121")
    rename = find_network(spec).renamed
    assert rename("features.denseblock1.denselayer2.norm.1.weight") == "features.denseblock1.denselayer2.norm1.weight"
    assert rename("features.norm5.weight") == "features.norm5.weight"


@pytest.mark.parametrize(("package", "name"), [("timm", "timm/resnet18"), ("transformers", "transformers/bert")])
def test_a_missing_extra_is_named(package, name, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TaskError, match=rf"needs {package}: pip install 'frostline\[{package}\]'"):
        find_network(model(name))


def test_timm_models_without_their_classifier():
    timm = pytest.importorskip("timm")
    network = find_network(model("timm/vit_tiny_patch16_224", image_size=64))
    assert network.images.size == 64
    assert network.images.mean == (0.5, 0.5, 0.5)
    assert feature_width(network.build().backbone, torch.zeros(2, 3, 64, 64)) == 192
    whole = timm.create_model("resnet18", pretrained=False)
    network = find_network(model("timm/resnet18"))
    backbone = network.build().backbone
    assert {key for key in whole.state_dict() if not key.startswith(network.classifier_prefixes)} == set(
        backbone.state_dict()
    )


@pytest.mark.parametrize(
    ("name", "message"), [("resnt18", "timm has no model 'resnt18'"), ("resnet18", "has DEFAULT,")]
)
def test_what_timm_does_not_have_is_named(name, message):
    pytest.importorskip("timm")
    spec = model(f"timm/{name}", weights="v9")
    with pytest.raises(TaskError, match=message):
        load_weights(spec, find_network(spec), find_network(spec).build().backbone)


@pytest.mark.parametrize(
    ("backbone", "keys", "message"),
    [
        ("resnet18", {"options": {"foo": 1}}, r"with options {'foo': 1} can't be built: TypeError: .*'foo'"),
        ("resnet18", {"options": {"weights": "DEFAULT"}}, r"can't be built: TypeError: .* values for .*'weights'"),
        (
            "timm/resnet18",
            {"options": {"pretrained": True}},
            r"can't be built: TypeError: .* values for .*'pretrained'",
        ),
        ("timm/resnet18.bogus", {}, r"can't be built: RuntimeError: Invalid pretrained tag \(bogus\)"),
        ("timm/resnet18", {"options": {"checkpoint_path": "w.pt"}}, r"belongs into \[model\] weights = 'w.pt'"),
        ("resnet18", {"mean": [0.5, 0.5], "std": [1.0, 1.0]}, r"`mean` and `std` must be 1 or 3 numbers"),
    ],
)
def test_impossible_options_are_refused_in_one_line(backbone, keys, message):
    if backbone.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(TaskError, match=message) as caught:
        find_network(model(backbone, **keys))
    assert "\n" not in str(caught.value)
