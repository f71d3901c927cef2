#!/bin/bash
#BSUB -gpu "num=2:gvendor=amd:aff=no"
#BSUB -o o.%J
rocm-smi
