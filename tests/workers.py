"""Run a script's training on several CPU devices: `workers.py COUNT SCRIPT OPTION…`."""

import importlib
import sys

import tensorflow as tf


def main():
    count = int(sys.argv[1])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    strategy = tf.distribute.MirroredStrategy([f"/CPU:{number}" for number in range(count)])

    from lib.system import devices

    devices.start_team = lambda *arguments: devices.Team(strategy)
    return importlib.import_module(sys.argv[2]).main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(main())
