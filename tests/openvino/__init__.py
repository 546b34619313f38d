"""The tests of the OpenVINO plugin, which import OpenVINO as the plugin does: without telemetry."""

from infer_backends_openvino._install import import_runtime

import_runtime()
