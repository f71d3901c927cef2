#!/bin/csh
#$ -m beas -M ann@lab.example
#$ -wd /scratch/ann
#$ -v PATH,LEVEL=3,TITLE="a b"
#$ -l s_rt=01:00:00,h_rt=01:05:00,s_vmem=3.5G
#$ -r n
#$ -e /dev/null
echo $HOSTNAME
