#!/usr/bin/perl
#PBS -N sweep
#PBS -t 1-5,10,20-30%4
#PBS -l nodes=n012+n013:ppn=8
#PBS -W x=FLAGS:ALLPROCS
system("./case $ENV{PBS_ARRAYID}");
