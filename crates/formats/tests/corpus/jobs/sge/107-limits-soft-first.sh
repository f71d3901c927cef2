#!/bin/csh -f
#$ -cwd
#$ -l s_vmem=6G,h_vmem=4G
#$ -l s_stack=64M,h_stack=128M,s_core=0,h_core=infinity
#$ -l s_fsize=2G
limit
./fortran_code
