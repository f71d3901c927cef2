#!/bin/bash
#$ -N liked
#$ -cwd
#$ -soft -q fast.q@node7 -l ssd
#$ -hard -q all.q
#$ -l h_rt=3600
./search
