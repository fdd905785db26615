"""What the server of :mod:`tools.endurance.child` imports before runs are forked from it."""

import hcpl_kernel.cli
import hcpl_kernel.engines.torch_engine
import hcpl_kernel.models.loading
import hcpl_kernel.networks
import hcpl_kernel.pipeline.field_work
import hcpl_kernel.pipeline.local
import hcpl_kernel.pipeline.run
import hcpl_kernel.report.text
import hcpl_kernel.segmentation.given_labels  # noqa: F401
