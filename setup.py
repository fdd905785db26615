"""Packaging of hcpl_kernel; the exact versions of the development environment are in requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "hcpl_kernel" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="hcpl-kernel",
    version=VERSION,
    description="Offline single-cell protein localisation (HCPL) for Human Protein Atlas images",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["hcpl_kernel", "hcpl_kernel.*"]),
    package_data={"hcpl_kernel": ["py.typed", "report/assets/*"]},
    install_requires=[
        "torch>=2.2",
        "torchvision",
        "timm>=1.0.9",
        "numpy>=1.24",
        "pandas>=2.0",
        "scipy>=1.10",
        "opencv-python-headless>=4.8",
        "numba>=0.59",
        "safetensors>=0.4",
        "pydantic>=2.6",
        "pydantic-core>=2.16",
        "typing-extensions>=4.1",
        "xgboost>=2.0",
        "pycocotools>=2.0.7",
        "tqdm>=4.60",
        "pillow>=9.1",
        "tifffile>=2023.2",
        "psutil>=5.9",
    ],
    extras_require={
        "cpu": ["openvino>=2024.4"],
        "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "torch>=2.5"],
        "cloud": ["obstore>=0.6", "pyarrow>=14"],
        "ray": ["ray>=2.9"],
        "export": ["anndata>=0.10", "openpyxl>=3.1", "pyarrow>=14", "roifile>=2024.3"],
        "notebook": ["ipython>=7"],
        "zarr": ["numcodecs>=0.13"],
        "remote": ["fsspec>=2023.6"],
        "reference": ["kymatio>=0.3", "scikit-image>=0.25"],
        "tools": [
            "lightning-fabric>=2.4",
            "matplotlib>=3.7",
            "nbformat>=5.0",
            "scikit-learn>=1.3",
            "selenium>=4.11",
            "umap-learn>=0.5",
        ],
    },
    entry_points={"console_scripts": ["hcpl = hcpl_kernel.cli:main"]},
)
