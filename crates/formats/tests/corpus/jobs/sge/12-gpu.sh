#!/bin/bash
#$ -l gpu=2
#$ -l gpu_type=v100
#$ -q gpu.q@@bignodes
./train
