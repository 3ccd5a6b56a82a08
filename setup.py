"""Package metadata. Tool settings are in pyproject.toml, the exact tested versions in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "tome_audio" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="tome_audio",
    version=VERSION,
    description="Token merging for audio transformers: fewer tokens, the same weights, no retraining",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["tome_audio", "tome_audio.*"]),
    package_data={"tome_audio": ["py.typed"]},
    install_requires=[
        # torchaudio is frozen at 2.11 and refuses to import beside a newer torch: the three move together.
        "torch>=2.6,<2.12",
        "torchaudio>=2.6,<2.12",
        "torchvision>=0.21,<0.27",
        "timm>=1.0.20",
        "numpy>=1.26",
        "pandas>=2.2",
        "soundfile>=0.12",
        "safetensors>=0.4",
        "jsonargparse[signatures]>=4.35",
        "rich>=13",
        "matplotlib>=3.8",
    ],
    # export names what later parts will import; the others are used.
    extras_require={
        "recipes": ["accelerate>=1.0", "tensorboard>=2.16", "torchmetrics>=1.4"],
        "hf": ["transformers>=5.0"],
        "fewshot": ["accelerate>=1.0", "audiomentations>=0.40", "optuna>=4.0", "torchmetrics>=1.4"],
        "sampleid": ["accelerate>=1.0", "librosa>=0.10", "python-stretch>=0.3.1", "soxr>=0.3.2", "torchmetrics>=1.4"],
        "demo": ["gradio>=6.0"],
        "faiss": ["faiss-cpu>=1.8"],
        "export": ["onnx>=1.16", "onnxruntime>=1.18"],
        "dev": [
            "accelerate>=1.0",
            "audiomentations>=0.40",
            "faiss-cpu>=1.8",
            "fvcore>=0.1.5.post20221221",
            "gradio>=6.0",
            "hypothesis>=6.100",
            "librosa>=0.10",
            "mypy>=1.10",
            "optuna>=4.0",
            "pandas-stubs",
            "playwright>=1.50",
            "pytest>=8",
            "pytest-benchmark>=4",
            "pytest-xdist>=3",
            "python-stretch>=0.3.1",
            "pytorch-metric-learning>=2.5,<3",
            "ruff>=0.6",
            "soxr>=0.3.2",
            "tensorboard>=2.16",
            "torchmetrics>=1.4",
            "transformers>=5.0",
        ],
    },
    entry_points={"console_scripts": ["tome-audio = tome_audio.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Operating System :: OS Independent",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
