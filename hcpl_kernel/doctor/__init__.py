"""`hcpl doctor`: is this environment fit to run, and if not, what is the way out?

Everything here needs the standard library only; torch is touched in child processes alone (`device_check.py`), so that a
broken, absent or crashing torch is a finding and not the end of the doctor.
"""

from hcpl_kernel.doctor.examination import examine, run_doctor
from hcpl_kernel.doctor.report import DoctorReport, Finding

__all__ = ["DoctorReport", "Finding", "examine", "run_doctor"]
