"""Prints what a real API server publishes at the path that is the first argument, such as /openapi/v3/api/v1."""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.controlplane.build import programs
from tests.controlplane.cluster import ControlPlane
from tests.controlplane.program import Failed

if __name__ == "__main__":
    try:
        with TemporaryDirectory() as folder, ControlPlane(programs(os.environ), Path(folder)) as control_plane:
            print(json.dumps(control_plane.get(sys.argv[1])))
    except Failed as failure:
        sys.exit(str(failure))
