#!/bin/bash
#$ -N assemble
#$ -cwd
#$ -l h_vmem=8G -l s_vmem=7.5G
#$ -l h_rt=12:00:00,s_rt=11:50:00
# SIGXCPU when the softer is reached, SIGKILL at the harder.
trap 'tar cf partial.tar work' XCPU USR1
spades.py --careful -m 8 -t 1 -1 r1.fq -2 r2.fq -o work
