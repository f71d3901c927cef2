#!/bin/sh
#PBS -Vj oe -lwalltime=1:00
#PBS -hn
./run
