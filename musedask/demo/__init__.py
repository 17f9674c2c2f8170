"""The demo: a real sky observed again, to be stacked and compared with what is known of it."""

from musedask.demo.comparison import compare_with_truth
from musedask.demo.exposures import demo_exposures, demo_specs
from musedask.demo.night import NightReport, run_night
from musedask.demo.pictures import white_light_pngs
from musedask.demo.run import DemoReport, run

__all__ = [
    "DemoReport",
    "NightReport",
    "compare_with_truth",
    "demo_exposures",
    "demo_specs",
    "run",
    "run_night",
    "white_light_pngs",
]
