"""Training: one command per stage, `python -m tools.train STAGE --config FILE --work DIR`.

Every stage resumes where an interrupted run stopped and gives what an uninterrupted one gives, because a batch, its
augmentation and the learning rate are functions of the settings, the seed and the number of the step (`loop.py`).

The mini ensemble, from nothing: `python -m tools.train mini --work DIR`, which leaves `DIR/weights`.

The networks of the paper, on the HPA's images (C = `tools/train/configs/full`, paths of the data in `C/crops.json`):

    python -m tools.train crops --config C/crops.json --work cells
    # a round of relabelling: three DSAs out of fold, then their confidences; the second round takes --labels round_1.npy
    python -m tools.train cells --config C/dsa_efficientnet_b4.json --cells cells --work round_0 --weights weights/full \\
        --predict out-of-fold                                    # and dsa_eca_nfnet_l1, dsa_resnest50d
    python -m tools.relabel --cells cells --predictions round_0/*/predictions --output round_1.npy
    # the nine networks, on the labels of round two
    python -m tools.train cells --config C/cla_resnet200d.json --cells cells --work final --weights weights/full \\
        --labels round_2.npy
    python -m tools.train integrity --config C/integrity.json --cells cells --work final --weights weights/full
"""
