"""What other tools took and reached on the same arrays, and what this project means to reach."""

from __future__ import annotations

from collections.abc import Mapping

# By scan and method: NRMSE % / HFEN % / XSIM, and FFT pairs; in vivo NRMSE % alone.
PEERS = {
    ("case", "nonlinear_fit"): "ROMEO, MCPC-3D-S: 1.42 Hz, 0.16 Hz",
    ("case", "weighted_mean"): "ROMEO + fit: 2.35 Hz, 0.21 Hz",
    ("case", "brain"): "BET: Dice 0.960",
    ("case", "resharp"): "QSM.rs 4600 pairs, Sun's toolbox 22600: 41.0 / 27.1 / .689",
    ("case", "vsharp"): "QSM.rs 310 pairs: 70.9 / 38.9 / .579",
    ("case", "lbv"): "QSM.rs 440 pairs: 60.2 / 38.6 / .657",
    ("case", "tkd"): "QSM.rs 13 pairs: 40.2 / 38.8 / .545",
    ("case", "l2"): "CGLS 79 pairs: 40.5 / 34.6 / .496",
    ("case", "ilsqr"): "QSM.rs 2100 pairs: 51.2 / 50.9 / .442; QSM.m 5100: 49.0 / 50.3 / .478",
    ("case", "medi"): "MEDI toolbox 20500 pairs: 16.0 / 12.0 / .830; QSM.rs 12900: 30.7 / 20.3 / .641",
    ("case", "tv"): "QSM.rs 520 pairs: 27.0 / 24.4 / .718",
    ("case", "nonlinear_tv"): "FANSI 8200 pairs: 21.5 / 15.8 / .743; QSM.rs 5100: 22.2 / 15.1 / .729",
    ("qsm2016 COSMOS", "tkd"): "84.2 (t = 0.2), 62.7 (t = 0.4)",
    ("qsm2016 COSMOS", "l2"): "65.2",
    ("qsm2016 COSMOS", "ilsqr"): "STI Suite 78.1",
    ("qsm2016 COSMOS", "medi"): "best tuned 60.0, Cornell 77.2",
    ("qsm2016 COSMOS", "tv"): "best tuned 71.4",
    ("qsm2016 COSMOS", "metaqsm"): "QSMnet+ 51.1, LPCNN 52.1, QSMnet 52.8",
}
# The largest value allowed, or the smallest where the name stands in AT_LEAST.
GOALS: dict[tuple[str, str], Mapping[str, float]] = {
    ("case", "nonlinear_fit"): {"RMSE Hz": 1.4, "median Hz": 0.16},
    ("case", "brain"): {"Dice": 0.97},
    ("case", "resharp"): {"NRMSE %": 41.0, "pairs": 250},
    ("case", "vsharp"): {"kept %": 97.0, "NRMSE %": 70.9, "pairs": 310},
    ("case", "lbv"): {"NRMSE %": 60.2, "HFEN %": 38.6, "pairs": 440},
    ("case", "tkd"): {"pairs": 3},
    ("case", "ilsqr"): {"NRMSE %": 41.0, "HFEN %": 34.0, "pairs": 350},
    ("case", "medi"): {"NRMSE %": 16.0, "HFEN %": 12.0, "XSIM": 0.83, "pairs": 1000},
    ("case", "tv"): {"NRMSE %": 27.0, "pairs": 250},
    ("case", "nonlinear_tv"): {"NRMSE %": 21.5, "pairs": 600},
    ("case", "metaqsm"): {"NRMSE %": 16.0},
    ("qsm2016 COSMOS", "metaqsm"): {"RMSE %": 51.9},
    ("qsm2016 chi_33", "metaqsm"): {"RMSE %": 65.5},
}
AT_LEAST = {"XSIM", "Dice", "kept %"}
LARGEST_MEMORY = {"volumes": 30.0}


def missed(scan: str, method: str, figures: Mapping[str, float]) -> list[str]:
    """Each goal that ``figures`` do not reach, in words."""
    found = []
    for name, goal in {**LARGEST_MEMORY, **GOALS.get((scan, method), {})}.items():
        if name not in figures:
            continue
        reached = figures[name] >= goal if name in AT_LEAST else figures[name] <= goal
        if not reached:
            sign = "at least" if name in AT_LEAST else "at most"
            found.append(f"{method} on {scan}: {name} is {figures[name]:.4g}, meant to be {sign} {goal:g}")
    return found
