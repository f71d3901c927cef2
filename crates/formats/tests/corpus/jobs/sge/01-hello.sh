#!/bin/bash
#$ -N hello
#$ -cwd
#$ -j y
#$ -l h_rt=00:05:00
echo hello
