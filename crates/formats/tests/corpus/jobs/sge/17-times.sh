#!/bin/bash
#$ -a 203001020304
#$ -dl 203002020304.30
#$ -l s_rt=3600
#$ -l h_cpu=10::
#$ -h u
#$ -sync y
./run
