#!/bin/bash
#$ -N spectra
#$ -l matlab=1,matlab_stats=1,mf=6G
#$ -q *@@linux
#$ -j y
#$ -cwd
matlab -nodisplay -nosplash -singleCompThread -r "try, spectra($SGE_TASK_ID), catch e, disp(e.message), exit(1), end, exit(0)"
