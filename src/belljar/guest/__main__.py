"""`IMAGE_PYTHON -I FOLDER launch|zygote|gvisor|gvisor-keeper`: the programs that the host side starts."""

import os
import sys

_folder = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [os.path.dirname(_folder), *(p for p in sys.path if os.path.abspath(p) != _folder)]

if sys.argv[1] == "launch":
    from guest.launch import main
elif sys.argv[1] == "gvisor":
    from guest.gvisor import main  # type: ignore[assignment]
elif sys.argv[1] == "gvisor-keeper":
    from guest.gvisor_keeper import main  # type: ignore[assignment]
else:
    from guest.zygote import main  # type: ignore[assignment]

sys.path.remove(os.path.dirname(_folder))
main()
