#!/bin/bash
#PBS -l nodes=1:ppn=16:bigmem+3:ppn=8:gpus=2:ib:ssd+login01
#PBS -l walltime=45:00
./staged
