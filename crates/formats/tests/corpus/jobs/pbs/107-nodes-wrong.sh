#!/bin/bash
#PBS -l nodes=0:ppn=4
#PBS -l nodes=2:ppn=all
#PBS -l nodes=2:ppn=4+
#PBS -l nodes=$N
#PBS -l mem=4.5gb
#PBS -l naccesspolicy=mine
./x
