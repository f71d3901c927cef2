#!/bin/sh
#PBS -N post
#PBS -W depend=after:31.head:32.head,afterany:40[].head
#PBS -W depend=afternotok:44
./post
