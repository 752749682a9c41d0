from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = next(
    line.split('"')[1]
    for line in (here / "vidtrans" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

INT8 = ["nncf>=2.15"]
RTX = "tensorrt-rtx>=1.7"
ONNX = ["onnx>=1.18", "onnxscript>=0.5"]

setup(
    name="vidtrans",
    version=version,
    description="One low-frame-rate video in, two synchronised high-frame-rate videos out: input and translation",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    # vidtrans/engines and vidtrans/train are links to the folders of the top level, so this finds every package once.
    packages=find_packages(include=["vidtrans", "vidtrans.*"]),
    package_data={"vidtrans.models": ["*.safetensors", "*.sha256"], "vidtrans.train": ["recipes/*.toml", "report.css"]},
    install_requires=[
        "torch>=2.10",
        "torchvision",
        "av>=14",
        "numpy",
        "pillow",
        "click>=8.1",
        "kornia",
        "safetensors",
        "rich",
        "opencv-python-headless>=5.0",
        "openvino>=2025.0",
        'decord; platform_machine == "x86_64" and sys_platform == "linux"',
    ],
    extras_require={
        "train": ["tensorboard", "lightning-fabric>=2.6"],
        "int8": INT8,
        "onnx": ONNX,
        "tensorrt": [*ONNX, "tensorrt>=10.9"],
        "rtx": [*ONNX, RTX],
        "test": [
            "pytest",
            "tensorboard",
            "lightning-fabric>=2.6",
            "ruff",
            "mypy",
            "onnxruntime",
            *INT8,
            *ONNX,
            # Builds plans without a GPU, where it has wheels.
            f'{RTX}; platform_machine == "x86_64" and sys_platform == "linux"',
        ],
    },
    entry_points={"console_scripts": ["vidtrans = vidtrans.cli:main"]},
)
