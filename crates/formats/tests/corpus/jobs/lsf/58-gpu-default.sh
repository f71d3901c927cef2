#!/bin/bash
#BSUB -gpu -
#BSUB -o o
nvidia-smi
