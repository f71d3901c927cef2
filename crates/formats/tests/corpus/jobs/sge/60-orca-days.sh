#!/bin/bash
#$ -wd /home/kim/orca/benzene
#$ -pe orte 16
#$ -l mem_free=4096M
#$ -l h_rt=1:00:00:00
#$ -N benzene
$(which orca) benzene.inp > benzene.out
