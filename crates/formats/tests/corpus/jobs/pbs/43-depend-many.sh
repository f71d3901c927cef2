#!/bin/sh
#PBS -W depend=afterok:101.pbs1:102.pbs1,afternotok:103.pbs1
#PBS -W umask=022
#PBS -W block=true
#PBS -a 03150630
#PBS -p 100
./post
