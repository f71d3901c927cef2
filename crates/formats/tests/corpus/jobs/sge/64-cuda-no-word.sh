#!/bin/bash
#$ -l cuda=2
#$ -q 'gpu*.q'
#$ -l hostname=node*
#$ -l h_rt=7200
nvidia-smi -L
./nbody -numdevices=2
