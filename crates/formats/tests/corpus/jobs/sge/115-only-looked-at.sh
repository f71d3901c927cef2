#!/bin/sh
#$ -verify
#$ -w v
#$ -N nothing-runs
#$ -l h_rt=60
true
