#!/bin/bash
#PBS -q gpuvolta
#PBS -l select=1:ncpus=24:ngpus=2:gpu_type=V100:mem=190gb:host=gpu[01]
#PBS -l jobfs=100gb
#PBS -l software=ansys
./train
