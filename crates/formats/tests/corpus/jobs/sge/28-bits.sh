#!/bin/bash
#$ -q short.q,long.q@@rack1 -l s_vmem=2G -l disk=5G
#$ -hold_jid 12 -hold_jid_ad arr
#$ -t 1-4 -tc 0
#$ -pe mpi-openmp 2-4,8
./run
