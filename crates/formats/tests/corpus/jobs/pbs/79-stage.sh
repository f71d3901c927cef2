#!/bin/sh
#PBS -N staged
#PBS -l ncpus=1
#PBS -W stagein=in.dat@store:/data/in.dat,stageout=out.dat@store:/data/out.dat
#PBS -W stageout="b.log@store:/data/b.log,c.log@store:/data/c.log"
./use in.dat > out.dat
