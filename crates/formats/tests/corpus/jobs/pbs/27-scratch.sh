#!/bin/bash
#PBS -N assembly
#PBS -l select=1:ncpus=16:mem=64gb:scratch_local=100gb
#PBS -l walltime=48:00:00
trap 'clean_scratch' TERM EXIT
cp input $SCRATCHDIR
