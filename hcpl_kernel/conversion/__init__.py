"""From a pickled torch file to safetensors, without importing, calling or executing anything that the file names.

`pickle_vm.py` interprets the pickle's opcodes itself, so no unpickler exists that could be tricked; `inert.py` is the data
it may build, `calls.py` what it may call. `torch_file.py` knows the containers around the pickle, `state_dict.py` the
names inside it, `converting.py` writes the result. None of this needs torch.
"""

from hcpl_kernel.conversion.converting import Conversion, convert

__all__ = ["Conversion", "convert"]
